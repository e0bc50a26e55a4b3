"""What can be said of the first values of one parameter? The words of ``init_audit``'s ``verdict``."""

from typing import Final

AS_MEANT: Final = "as meant"
NOT_AS_MEANT: Final = "not as meant"
FITS: Final = "fits"
OVERRIDDEN: Final = "overridden by tying"
UNKNOWN: Final = "unknown"
TOO_FEW: Final = "too few values"
NOT_FINITE: Final = "not finite"
EMPTY: Final = "empty"
NOT_RECORDED: Final = "not recorded"
