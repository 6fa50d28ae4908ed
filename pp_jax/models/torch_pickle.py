"""What a pickle of PyTorch describes, found out without running what it asks for.

A pickle is a program. Here the functions that put tensors together give plain descriptions, `OrderedDict` is itself,
and every other class or function that a file names, of whatever module, is a stand-in that keeps what it is given and
does nothing: nothing is imported and nothing is called.
"""

import pickle
from collections import OrderedDict
from typing import IO, Any, NamedTuple

from pp_jax.models import torch_opcodes

# What PyTorch calls the types of its storages; those without a plain array keep the names that PyTorch gives them.
STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexHalf": "complex32",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128", "QInt8": "qint8", "QUInt8": "quint8",
    "QInt32": "qint32", "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4", "Untyped": "untyped",
}  # fmt: skip
# Functions that put together tensors which are no plain arrays.
_ODD = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_qtensor": "a quantized tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without values",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a class of its own",
}
# Functions of dill and cloudpickle that would return a class, for objects of classes defined in a script.
_MAKERS = (
    "dill._dill._create_type", "dill._dill._load_type", "dill._dill._create_namedtuple",
    "cloudpickle.cloudpickle._make_skeleton_class", "cloudpickle.cloudpickle._make_skeleton_enum",
    "cloudpickle.cloudpickle._builtin_type",
)  # fmt: skip


class Storage(NamedTuple):
    """A run of numbers in the file: `length` of them from the `start`-th on."""

    key: str
    dtype: str
    start: int
    length: int


class Tensor(NamedTuple):
    """A tensor as it is described in the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        """Ignore what old files say about gradients."""


class Odd(NamedTuple):
    """A tensor that is no plain array, by what it is."""

    what: str

    def __setstate__(self, state: Any) -> None:
        """Ignore what is said of it."""


class Inert:
    """An object of a class that was not imported, or of what a function that was not called would have returned."""

    name = ""

    def __new__(cls, *arguments: Any, **named: Any) -> "Inert":
        """Keep the positional arguments."""
        del named
        made = super().__new__(cls)
        made.arguments, made.state, made.entries, made.members = arguments, None, {}, []
        return made

    arguments: tuple[Any, ...]
    state: Any
    entries: dict[Any, Any]
    members: list[Any]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Nothing is built."""

    def __repr__(self) -> str:
        """What it would have been."""
        return f"an object of {self.name}"

    def __call__(self, *arguments: Any, **named: Any) -> "Inert":
        """A call of what a call returned."""
        return type(self)(*arguments, **named)

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes."""
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep an entry."""
        self.entries[key] = value

    def append(self, member: Any) -> None:
        """Keep a member."""
        self.members.append(member)

    def add(self, member: Any) -> None:
        """Keep a member."""
        self.members.append(member)

    def extend(self, members: Any) -> None:
        """Keep members."""
        self.members.extend(members)


def _plain(storage: Any, offset: Any, shape: Any, strides: Any, *more: Any) -> Tensor | Odd:
    """A tensor of numbers; the last of seven descriptions tells of a view that negates or conjugates them."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    if any(isinstance(flags, dict) and any(flags.values()) for flags in more[2:3]):
        return Odd("a negated or conjugated view")
    return Tensor(storage, offset, shape, strides)


def _typed(storage: Any, offset: Any, shape: Any, strides: Any, *more: Any) -> Tensor | Odd:
    """A tensor whose type stands beside its storage of bytes."""
    named = more[2].name if isinstance(more[2], type) and issubclass(more[2], Inert) else "another type"
    return _plain(storage._replace(dtype=named.removeprefix("torch.")), offset, shape, strides, None, None, *more[3:])


class Unpickler(pickle.Unpickler):
    """Builds dicts, lists, numbers and descriptions of tensors, and stand-ins for all else.

    Attributes:
        dtypes: the types of the storages that were described, by key.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8", errors="surrogateescape")
        self._file = file
        self.dtypes: dict[str, str] = {}
        self._inert: dict[str, type[Inert]] = {}
        # Made anew for each pickle, so that none can alter them for the next.
        self._admitted: dict[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor": lambda *description: _plain(*description),
            "torch._utils._rebuild_tensor_v2": lambda *description: _plain(*description),
            "torch._utils._rebuild_tensor_v3": lambda *description: _typed(*description),
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
            "torch.nn.parameter.Parameter": lambda tensor, *_: tensor,
            "torch._tensor._rebuild_from_type_v2": self._of_a_class,
        }

    def load(self) -> Any:
        """The object that the next pickle of the file describes.

        Raises:
            ValueError: if the pickle would take memory or time beyond its size.
        """
        torch_opcodes.check(self._file)
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name."""
        full = f"{module}.{name}"
        if full in self._admitted:
            return self._admitted[full]
        if full in _ODD:
            return lambda *_: Odd(_ODD[full])
        if module in ("torch", "torch.storage", "torch.cuda") and name.endswith("Storage"):
            kind = name.removesuffix("Storage")
            return STORAGES.get(kind, kind)
        if full not in self._inert:
            self._inert[full] = type("Inert", (Inert,), {"name": full})
        inert = self._inert[full]
        return (lambda *_: inert) if full in _MAKERS else inert

    def persistent_load(self, pid: Any) -> Any:
        """The storage that ("storage", type, key, place, length[, (view's key, start, length)]) describes.

        Old files keep the source of a class beside it, ("module", class, file, source): that is its stand-in.
        """
        kind, what, *rest = pid
        if kind == "module":
            return what
        if kind != "storage" or not isinstance(what, str):
            raise ValueError(f"it describes a {kind}, not a storage of numbers")
        key, _, length, *view = rest
        self.dtypes[key] = what
        start, length = view[0][1:] if view and view[0] else (0, length)
        return Storage(key, what, start, length)

    def _of_a_class(self, rebuild: Any, _: Any, arguments: Any, *__: Any) -> Any:
        """A tensor of a class of its own, or with attributes: the tensor alone."""
        known = [value for name, value in self._admitted.items() if name.startswith("torch._utils.")]
        return rebuild(*arguments) if rebuild in known else Odd("a tensor of a class of its own")
