"""A device that is not the CPU, on a machine that has none.

Inside `with Machine("cuda", count=2) as machine:` torch believes that there are two GPUs (`Machine("mps")`: one of
Apple's). A tensor that is sent to one becomes a `Simulated` tensor: it says that it is there, holds an ordinary tensor
of the CPU, and computes with that. What a program can get wrong without noticing it on a CPU is checked:

- Tensors of different devices do not meet. As on a GPU, a scalar tensor of the CPU may take part in pointwise
  operators, and indices may lie on the CPU.
- Each device has a generator of its own. The first one is current until a program chooses another.
- Whatever makes the host wait for the device (`item()`, `cpu()`, an `if` on a tensor, indexing by a mask, a copy from
  memory that is not pinned, ...) is counted in `machine.waits` by the line of ganzoo, or of a plugin, that caused it.
- An asynchronous copy may be under way until the next wait. If its source was freed or overwritten meanwhile, the
  first use of the copy or that wait raises `UnsafeCopy`, which names the line that began it. A pinned source may be
  freed, because torch keeps its memory until the copy has ended.
- MPS has no float64.
- `machine.operators` counts the operators that ran on the device, forward and backward, by name, such as "index.Tensor"
  or "index_put_ accumulate=True". `machine.launches` counts those of them for which a GPU would start a kernel: not
  those that only look at the same memory in another way, or get some, and not the copies from and to the CPU.
- `machine.uploads` counts the copies from the CPU to the device, by the line of ganzoo, or of a plugin.

The kernels, and what autocast does in bfloat16, are those of the CPU, so a correct program gives the bits that it gives
on the CPU. That is also what this cannot show: speed, memory, how a GPU's kernels round and in which order they add,
torch.compile, and whatever goes wrong inside CUDA, cuDNN, NCCL or Metal. What needs a real GPU is in `test_cuda.py`.
"""

import contextlib
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Literal
from unittest.mock import patch

import torch
import torch._dynamo  # looks for devices when it is imported, which must not be inside a Machine
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
CPU = torch.device("cpu")

WAITING = {
    aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default, aten.masked_select.default,
    aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default, aten.bincount.default,
    aten.repeat_interleave.Tensor, aten._linalg_eigh.default, aten._linalg_svd.default,
}  # fmt: skip
"""Operators whose result, or whose result's size, the host reads."""
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Operators that take indices from both devices; masks and indices on the CPU make the host wait."""
IDLE = {
    "_unsafe_view", "empty", "empty_like", "empty_strided", "is_same_size", "new_empty", "new_empty_strided", "resize_",
    "set_", "squeeze_", "unsqueeze_", "transpose_", "t_", "detach_", "_local_scalar_dense",
}  # fmt: skip
"""Operators that launch no kernel, besides the views: `item()` is a copy, and the others leave memory alone."""


class UnsafeCopy(RuntimeError):
    """The source of an asynchronous copy was freed or overwritten while the copy could be under way."""


class Simulated(torch.Tensor):
    """A tensor that says it is on `place`. `host`, on the CPU, holds its values; `arrival` is the asynchronous copy
    that brings them, until the first use."""

    host: Tensor
    place: torch.device
    arrival: "Copy | None"

    @staticmethod
    def __new__(cls, inner: Tensor, place: torch.device, arrival: "Copy | None" = None) -> "Simulated":
        if place.type == "mps" and inner.dtype in (torch.float64, torch.complex128):
            raise TypeError("the MPS framework doesn't support float64: use float32 instead")
        # To torch's C++ side the wrapper is on the CPU as well: autograd there refuses a device that is absent.
        wrapper: Simulated = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype
        )
        wrapper.host, wrapper.place, wrapper.arrival = inner, place, arrival
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise RuntimeError(f"{func} on a simulated tensor outside of its Machine")

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return self.place.type == "cuda"

    @property
    def is_mps(self) -> bool:  # type: ignore[override]
        return self.place.type == "mps"

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Simulated({self.host!r}, {str(self.place)!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            twin: Tensor = self.detach().clone()
            twin = nn.Parameter(twin) if isinstance(self, nn.Parameter) else twin
            memo[id(self)] = twin.requires_grad_(self.requires_grad)
        return memo[id(self)]

    def __tensor_flatten__(self) -> tuple[list[str], torch.device]:
        """Tells `nn.Module.to` to put such a tensor in place of a parameter, rather than into it."""
        return ["host"], self.place

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], place: torch.device, size: Any, stride: Any) -> "Simulated":
        return Simulated(inner["host"], place)


class Copy:
    """An asynchronous copy from the CPU, begun at the line `origin`."""

    def __init__(self, source: Tensor, origin: str, pinned: bool) -> None:
        storage = source.untyped_storage()
        self.storage, self.kept = weakref.ref(storage), storage if pinned else None
        self.dtype, self.layout = source.dtype, (source.storage_offset(), source.size(), source.stride())
        self.origin, self.content = origin, _bytes(source)

    def check(self) -> None:
        """Raises UnsafeCopy unless the source still holds what was to be copied."""
        storage = self.storage()
        if storage is None:
            raise UnsafeCopy(f"{self.origin}: the memory of an asynchronous copy was freed before the copy had ended")
        if not torch.equal(_bytes(torch.empty(0, dtype=self.dtype).set_(storage, *self.layout)), self.content):
            raise UnsafeCopy(f"{self.origin}: the source of an asynchronous copy was overwritten before it had ended")


def _bytes(tensor: Tensor) -> Tensor:
    """A copy of the values, comparable where they are NaN too."""
    return tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)


def _each(values: Any) -> Iterator[Tensor]:
    """The tensors among an operator's arguments."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _each(value)


def _mapped(values: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same arguments or results with each tensor changed."""
    if isinstance(values, Tensor):
        return change(values)
    if isinstance(values, list | tuple):
        return type(values)(_mapped(value, change) for value in values)
    return values


def _line() -> str:
    """MODULE:LINE of the innermost code of ganzoo or a plugin; without one, of that which called torch."""
    frame: FrameType | None = sys._getframe(1)
    caller = ""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        top = module.partition(".")[0]
        if top.startswith("ganzoo"):
            return f"{module}:{frame.f_lineno}"
        if not caller and top not in ("torch", "contextlib", "unittest", __name__):
            caller = f"{module}:{frame.f_lineno}"
        frame = frame.f_back
    return caller


class Machine(contextlib.ExitStack):
    """A machine with simulated devices, while it is entered.

    Args:
        kind: of its devices.
        count: how many there are.
        memory: free bytes on each, which decides whether ganzoo keeps the data there.

    Raises:
        UnsafeCopy: on leaving, if a copy that is still under way has lost its source.
    """

    def __init__(self, kind: Literal["cuda", "mps"] = "cuda", count: int = 1, memory: int = 2**33) -> None:
        super().__init__()
        self.kind, self.memory, self.current = kind, memory, 0
        self.generators = tuple(torch.Generator() for _ in range(count))
        self.waits: Counter[str] = Counter()
        self.operators: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self.pinned: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.under_way: list[Copy] = []
        self.owner: torch.device | None = None  # where the tensors of the running call of torch are
        self.leaving = False  # whether that call brings a tensor to the CPU

    def __enter__(self) -> "Machine":
        self._believe()
        self.enter_context(torch.autograd.set_multithreading_enabled(False))  # other threads lack the modes below
        self.enter_context(_Functions(self))
        self.enter_context(_Operators(self))
        return self

    def __exit__(self, *error: Any) -> bool:
        suppressed = super().__exit__(*error)
        if error[0] is None:
            self._finish_copies()
        return bool(suppressed)

    def _believe(self) -> None:
        """Let torch find the devices: what would ask a driver asks this machine."""
        count = len(self.generators) if self.kind == "cuda" else 0
        there = self.kind == "mps"
        begin = torch.amp.autocast_mode.autocast.__init__
        join = torch.distributed.init_process_group

        def autocast(context: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
            begin(context, "cpu" if device_type == self.kind else device_type, *args, **kwargs)

        for owner, name, value in (
            (torch.cuda, "_initialized", bool(count)),
            (torch.cuda, "is_available", lambda: bool(count)),
            (torch.cuda, "device_count", lambda: count),
            (torch.cuda.random, "device_count", lambda: count),
            (torch.cuda, "default_generators", self.generators[:count]),
            (torch.cuda, "get_device_name", lambda device=None: "simulated GPU"),
            (torch.cuda, "is_bf16_supported", lambda including_emulation=True: True),
            (torch.cuda, "mem_get_info", lambda device=None: (self.memory, self.memory)),
            (torch.cuda, "is_current_stream_capturing", lambda: False),
            (torch.cuda, "_exchange_device", self._exchange),
            (torch.cuda, "_maybe_exchange_device", self._exchange),
            (torch._C, "_cuda_getDevice", lambda: self.current),
            (torch._C, "_cuda_setDevice", self._exchange),
            (torch._C, "_cuda_synchronize", self.wait),
            (torch.accelerator, "current_accelerator", lambda check_available=False: None),  # no graph is captured
            (torch._C, "_has_mps", there),
            (torch.backends.mps, "is_available", lambda: there),
            (torch.mps, "_get_default_mps_generator", lambda: self.generators[0]),
            (torch.mps, "synchronize", self.wait),
            (torch.amp.autocast_mode.autocast, "__init__", autocast),
            (torch.distributed, "init_process_group", lambda backend=None, **options: join("gloo", **options)),
        ):
            self.enter_context(patch.object(owner, name, value, create=True))

    def _exchange(self, index: int) -> int:
        before, self.current = self.current, index if index >= 0 else self.current
        return before

    def locate(self, device: torch.device | str | None) -> torch.device | None:
        """That device with its number; None for the CPU, and where none is named.

        Raises:
            RuntimeError: this machine has no such device.
        """
        device = None if device is None else torch.device(device)
        if device is None or device.type in ("cpu", "meta"):
            return None
        index = self.current if device.index is None else device.index
        if device.type != self.kind or index >= len(self.generators):
            raise RuntimeError(f"invalid device ordinal: {device} on a machine with {len(self.generators)} {self.kind}")
        return torch.device(device.type, index)

    def wait(self) -> None:
        """Count that the host waits here, until all that is under way has ended."""
        self.waits[_line()] += 1
        self._finish_copies()

    def _finish_copies(self) -> None:
        copies, self.under_way = self.under_way, []
        for copy in copies:
            copy.check()

    def is_pinned(self, tensor: Tensor) -> bool:
        storage = None if isinstance(tensor, Simulated) else tensor.untyped_storage()
        return storage is not None and self.pinned.get(storage._cdata) is storage

    def pin(self, tensor: Tensor) -> Tensor:
        """A copy in pinned memory."""
        if isinstance(tensor, Simulated):
            raise RuntimeError(f"cannot pin a tensor on {tensor.place}: only dense CPU tensors can be pinned")
        twin = tensor if self.is_pinned(tensor) else tensor.clone()
        storage = twin.untyped_storage()
        self.pinned[storage._cdata] = storage
        return twin

    def upload(self, source: Tensor, asynchronous: bool) -> Copy | None:
        """What a copy from the CPU does besides: None if it has ended on return.

        CUDA copies memory that is not pinned into a buffer of its own first, and waits for the device to take it.
        MPS reads it where it lies.
        """
        self.uploads[_line()] += 1
        pinned = self.is_pinned(source)
        if not asynchronous or not (pinned or self.kind == "mps"):
            self.wait()
            return None
        self.under_way.append(Copy(source, _line(), pinned))
        return self.under_way[-1]

    # Operators

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operator of torch on whatever devices its arguments are."""
        tensors = [*_each(args), *_each(kwargs.values())]
        places = [tensor.place for tensor in tensors if isinstance(tensor, Simulated)]
        place = self.locate(kwargs.get("device")) or (places[0] if places else None)
        if place is None and not tensors and kwargs.get("device") != torch.device("meta"):
            place = self.owner  # made inside torch, to meet tensors that are there
        if place is None:
            return func(*args, **kwargs)
        self.operators[_name(func, args, kwargs)] += 1
        if func in (aten._to_copy.default, aten.copy_.default):
            return self._transfer(func, args, kwargs, place)
        self._launch(func)
        if places:
            self._meet(func, args, tensors, place)
        if func in WAITING or (func in INDEXING and _reads_indices(args)):
            self.wait()
        return self._compute(func, args, kwargs, place)

    def _launch(self, func: Any) -> None:
        """Count the kernel of an operator, if it has one."""
        name = func.name().removeprefix("aten::")
        if not func.is_view and name.partition(".")[0] not in IDLE:
            self.launches[name] += 1

    def _meet(self, func: Any, args: tuple[Any, ...], tensors: list[Tensor], place: torch.device) -> None:
        """Refuse tensors that are not all on one device, as torch's kernels for GPUs do."""
        indexing = func in INDEXING and isinstance(args[0], Simulated)
        indices = list(_each(args[1:2])) if indexing else []
        scalars = indexing or torch.Tag.pointwise in func.tags or func.name().startswith("aten::_foreach")
        written = [a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments]
        results = [id(tensor) for value, out in zip(args, written, strict=False) if out for tensor in _each([value])]
        for tensor in tensors:
            here = tensor.place if isinstance(tensor, Simulated) else CPU
            scalar = tensor.dim() == 0 and scalars and id(tensor) not in results
            if here != place and not (here == CPU and (scalar or any(tensor is index for index in indices))):
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two devices, "
                    f"{place} and {here}! ({func.name()} at {_line()})"
                )

    def _transfer(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: torch.device) -> Any:
        """Copies, the only operators that may take tensors of two devices."""
        source = args[1] if func is aten.copy_.default else args[0]
        target = args[0] if func is aten.copy_.default else None
        asynchronous = bool(kwargs.get("non_blocking") or (target is not None and (*args, False)[2]))
        arrival = None
        if not isinstance(source, Simulated):
            arrival = self.upload(source, asynchronous)
        elif self.leaving or (target is not None and not isinstance(target, Simulated)):
            if asynchronous:
                raise NotImplementedError(f"{_line()}: an asynchronous copy to the CPU")
            self.wait()
            place = CPU
        else:
            self._launch(func)
        result = self._compute(func, args, kwargs, place)
        if arrival is not None:
            result.arrival = arrival
        return result

    def _compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: torch.device) -> Any:
        """Run it on the inner tensors, and wrap what is new."""
        wrappers: dict[int, Tensor] = {}

        def unwrap(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, Simulated):
                wrappers[id(tensor)] = tensor
                return tensor
            if tensor.arrival is not None:
                tensor.arrival.check()
                tensor.arrival = None
            wrappers[id(tensor.host)] = tensor
            return tensor.host

        def wrap(result: Tensor) -> Tensor:
            known = wrappers.get(id(result))
            if known is None:
                return result if place == CPU else Simulated(result, place)
            if known.shape != result.shape or known.stride() != result.stride():
                raise NotImplementedError(f"{func.name()} changes the shape of a simulated tensor in place")
            return known

        inner = {key: _mapped(value, unwrap) for key, value in kwargs.items()}
        if "device" in inner:
            inner["device"] = CPU
        if inner.get("pin_memory"):
            raise NotImplementedError(f"{func.name()} with pin_memory")
        with self._random(inner, place) if torch.Tag.nondeterministic_seeded in func.tags else contextlib.nullcontext():
            return _mapped(func(*_mapped(args, unwrap), **inner), wrap)

    @contextlib.contextmanager
    def _random(self, kwargs: dict[str, Any], place: torch.device) -> Iterator[None]:
        """Draw from the device's generator instead of the CPU's."""
        if kwargs.get("generator") is not None:
            raise RuntimeError(f"Expected a {place.type!r} device type for generator but found 'cpu' ({_line()})")
        ours, usual = self.generators[place.index], torch.default_generator
        before = usual.get_state()
        usual.set_state(ours.get_state())
        try:
            yield
        finally:
            ours.set_state(usual.get_state())
            usual.set_state(before)


def _name(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """What an operator is called, with the one argument that decides whether it is deterministic on a GPU."""
    name = func.name().removeprefix("aten::")
    for i, argument in enumerate(func._schema.arguments):
        if argument.name == "accumulate":
            given = args[i] if i < len(args) else kwargs.get("accumulate", False)
            return f"{name} accumulate={given}"
    return str(name)


def _reads_indices(args: tuple[Any, ...]) -> bool:
    """Whether the host must wait for an indexing operator."""
    indices = list(_each(args[1:2]))
    masks = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
    return masks or any(not isinstance(index, Simulated) for index in indices)


class _Operators(TorchDispatchMode):
    """Hands each operator to the machine."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            return self.machine.operate(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Calls of torch's Python side, some of which never become an operator."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.own: dict[Any, Callable[..., Any]] = {
            torch.Tensor.to: self._to,
            torch.Tensor.cpu: lambda tensor, **options: self._to(tensor, CPU, **options),
            torch.Tensor.cuda: lambda tensor, device="cuda", **options: self._to(tensor, device, **options),
            torch.tensor: lambda *args, **options: self._from_data(torch.tensor, *args, **options),
            torch.as_tensor: lambda *args, **options: self._from_data(torch.as_tensor, *args, **options),
            torch.Tensor.numpy: self._numpy,
            torch.Tensor.__array__: self._numpy,
            torch.Tensor.tolist: self._list,
            torch.Tensor.pin_memory: machine.pin,
            torch.Tensor.is_pinned: machine.is_pinned,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.own:
            return self.own[func](*args, **kwargs)
        before = self.machine.owner
        self.machine.owner = next((t.place for t in _each(args) if isinstance(t, Simulated)), None)
        if self.machine.owner is not None and "device" in kwargs and self.machine.locate(kwargs["device"]) is None:
            raise NotImplementedError(f"{_line()}: {func} of a simulated tensor with device={kwargs['device']}")
        try:
            return func(*args, **kwargs)
        finally:
            self.machine.owner = before

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = kwargs.pop("copy", False)
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        source = tensor.place if isinstance(tensor, Simulated) else CPU
        target = source if device is None else self.machine.locate(device) or torch.device(device)
        if target == source or "meta" in (target.type, tensor.device.type):
            return tensor.to(target if source == CPU else None, dtype, False, copy, memory_format=memory_format)
        self.machine.leaving = target == CPU
        try:
            moved: Tensor = aten._to_copy.default(
                tensor, dtype=dtype, device=target, non_blocking=non_blocking, memory_format=memory_format
            )
        finally:
            self.machine.leaving = False
        return moved

    def _from_data(self, make: Callable[..., Tensor], data: Any, *args: Any, **kwargs: Any) -> Tensor:
        device = kwargs.pop("device", None)
        tensor = data if isinstance(data, Simulated) else make(data, *args, **kwargs)
        return tensor if device is None else self._to(tensor, device)

    def _numpy(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(tensor, Simulated):
            raise TypeError(f"can't convert {tensor.place} device type tensor to numpy. Use Tensor.cpu() first")
        return tensor.numpy(*args, **kwargs)

    def _list(self, tensor: Tensor) -> Any:
        return (self._to(tensor.detach(), CPU) if isinstance(tensor, Simulated) else tensor).tolist()
