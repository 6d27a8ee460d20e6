from typing import Any

from numpy.typing import NDArray

def fuse(*args: Any) -> tuple[NDArray[Any], ...]: ...
