"""How is a run shown while it is still being recorded?"""
