from typing import Any, Callable, TypeVar

_F = TypeVar("_F", bound=Callable[..., None])

class _FFI:
    def def_extern(self) -> Callable[[_F], _F]: ...
    def __getattr__(self, name: str) -> Any: ...

ffi: _FFI
lib: Any
