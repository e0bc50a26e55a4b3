"""How do two models differ, and is one the other? Here what reads them meets what judges and tells."""
