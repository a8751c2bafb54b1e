"""What is watched: the parameters of the models, their names, kinds and order."""

from __future__ import annotations

import dataclasses
import hashlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from ..errors import ConfigError
from ..protocol import Tensor, limits
from ..protocol.messages import Kind

__all__ = ["Catalog", "ParameterRef", "clean_name", "local_part"]

ParameterRef: TypeAlias = Callable[[], "nn.Parameter | None"]
"""A weak reference."""

_WRAPPERS: Final = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_STD_SAMPLE: Final = 4096


class Catalog:
    """The parameters of the models, each once, as columns ``0 .. len-1`` in registration order.

    With several models the names begin with the model's: the key of a mapping, else its class in lower case (its index
    where two have the same class). Holds weak references only, to the models and to the parameters.

    Raises:
        ConfigError: no parameters, too many of them, or a pattern in ``include`` that matches none.
    """

    def __init__(
        self,
        models: Sequence[nn.Module] | Mapping[str, nn.Module],
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        modules = list(models.values()) if isinstance(models, Mapping) else list(models)
        for model in modules:
            if not isinstance(cast(object, model), nn.Module):
                raise ConfigError(f"watch() takes torch modules, not {type(model).__name__}")
        self._models = [weakref.ref(model) for model in modules]
        self.single = len(modules) == 1
        """Whether there is one model, number 0."""
        self._prefixes = (
            [f"{name}." if name else "" for name in models]
            if isinstance(models, Mapping)
            else _prefixes(modules)
        )
        self._include = tuple(include)
        self._exclude = tuple(exclude)
        self.refs: list[ParameterRef] = []
        self._ids: list[int] = []
        self._gone: list[weakref.ref[nn.Parameter]] = []
        """Of the parameters, those that no longer exist: their ids may be those of others by now."""
        self.index: dict[int, int] = {}
        self._facts: list[Tensor] = []
        self._owners: list[int] = []
        self.scan()
        self._check()

    def __len__(self) -> int:
        return len(self.refs)

    def scan(self) -> bool:
        """Looks through the models again; whether anything changed. Columns keep their place where they can.

        A container made for the call alone (``watch(nn.ModuleList([a, b]))``) is gone soon; its parameters stay known.
        """
        known = list(self._alive())
        before = {id(parameter): fact for _, parameter, fact in known}
        order = list(before)
        found: list[tuple[nn.Parameter, Tensor]] = []
        self._owners = []
        seen: set[int] = set()
        names: dict[str, int] = {}
        for number, ref in enumerate(self._models):
            model = ref()
            if model is None:
                kept = [(parameter, fact) for owner, parameter, fact in known if owner == number]
                names.update((fact.name, 1) for _, fact in kept)
            else:
                kept = [self._known(before, *rest) for rest in self._walk(model, number, seen, names)]
            seen.update(id(parameter) for parameter, _ in kept)
            self._owners += [number] * len(kept)
            found += kept
        facts = [fact for _, fact in found]
        same = order == [id(parameter) for parameter, _ in found] and facts == self._facts
        self._gone = []
        self.refs = [weakref.ref(parameter, self._gone.append) for parameter, _ in found]
        self._ids = [id(parameter) for parameter, _ in found]
        self.index = {name: column for column, name in enumerate(self._ids)}
        self._facts = facts
        return not same

    def parameters(self) -> list[nn.Parameter | None]:
        """The parameters in the order of the columns; None for one that no longer exists."""
        return [ref() for ref in self.refs]

    def let_go(self, *tensors: torch.Tensor) -> Callable[[], None]:
        """Drops the weak references to these, as far as they are watched, until the returned function is called."""
        held = [(column, tensor) for tensor in tensors if (column := self.column(tensor)) is not None]
        for column, _ in held:
            self.refs[column] = _nothing

        def take() -> None:
            for column, tensor in held:
                self.refs[column] = weakref.ref(cast(nn.Parameter, tensor), self._gone.append)

        return take

    @property
    def lost(self) -> bool:
        """Whether one of the parameters no longer exists."""
        return bool(self._gone)

    def consists_of(self, parameters: Sequence[torch.Tensor]) -> bool:
        """Whether these are the watched parameters, all of them and in the order of the columns."""
        return not self._gone and list(map(id, parameters)) == self._ids

    def holds(self, ids: set[int]) -> bool:
        """Whether these are ids of watched parameters."""
        return self.index.keys() >= ids

    def _alive(self) -> Iterator[tuple[int, nn.Parameter, Tensor]]:
        for owner, ref, fact in zip(self._owners, self.refs, self._facts, strict=True):
            parameter = ref()
            if parameter is not None:
                yield owner, parameter, fact

    @staticmethod
    def _known(
        before: Mapping[int, Tensor],
        name: str,
        path: str,
        leaf: str,
        module: nn.Module,
        parameter: nn.Parameter,
    ) -> tuple[nn.Parameter, Tensor]:
        """The parameter with what was known of it, if that still holds."""
        fact = before.get(id(parameter))
        if (
            fact is not None
            and fact.name == name
            and (_lazy(parameter) or fact.shape == tuple(parameter.shape))
        ):
            return parameter, fact
        return parameter, _fact(name, path, leaf, module, parameter)

    def column(self, parameter: torch.Tensor) -> int | None:
        """The column of a parameter, or None if it is not watched."""
        column = self.index.get(id(parameter))
        return column if column is not None and self.refs[column]() is parameter else None

    def model_of(self, column: int | None) -> int:
        """Which model a column belongs to, -1 for none."""
        return -1 if column is None else self._owners[column]

    def models_of(self, columns: npt.NDArray[np.intp]) -> set[int]:
        """Which models these columns belong to."""
        return {0} if self.single else {self._owners[column] for column in columns}

    def trainable_models(self) -> set[int]:
        """The models that have a parameter that is not frozen."""
        pairs = zip(self._owners, self.refs, strict=True)
        return {model for model, ref in pairs if getattr(ref(), "requires_grad", False)}

    def mask(self, optimizer: Optimizer) -> npt.NDArray[np.bool_]:
        """Which columns an optimizer holds, bool ``[len(self)]``."""
        mask = np.zeros(len(self), bool)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                column = self.column(parameter)
                if column is not None:
                    mask[column] = True
        return mask

    def tensors(self, depths: Sequence[int], owners: Mapping[int, tuple[int, int]]) -> tuple[Tensor, ...]:
        """The declaration. ``depths[i]`` is the place of column *i* in forward order, ``owners`` gives its optimizer and
        parameter group."""
        declared = []
        for column, (fact, ref) in enumerate(zip(self._facts, self.refs, strict=True)):
            parameter = ref()
            optimizer, group = owners.get(column, (-1, -1))
            trainable = fact.trainable if parameter is None else parameter.requires_grad
            declared.append(
                dataclasses.replace(
                    fact, depth=depths[column], optimizer=optimizer, group=group, trainable=trainable
                )
            )
        return tuple(declared)

    def depths(self, accumulated: Sequence[int]) -> list[int]:
        """The place of each column in forward order.

        ``accumulated`` lists columns in the order in which the first backward wrote their gradients, which is the
        reverse of forward order (exact for sequential nets). Tensors of one module stay together, in registration
        order; modules that got no gradient follow the one registered before them.
        """
        last: dict[str, int] = {}
        for position, column in enumerate(accumulated):
            last[self._facts[column].module] = position
        keys: list[tuple[float, int]] = []
        previous = -float(len(accumulated))
        for column, fact in enumerate(self._facts):
            previous = -float(last[fact.module]) if fact.module in last else previous
            keys.append((previous, column))
        ranks = [0] * len(keys)
        for rank, (_, column) in enumerate(sorted(keys)):
            ranks[column] = rank
        return ranks

    def _walk(
        self, model: nn.Module, number: int, seen: set[int], names: dict[str, int]
    ) -> Iterator[tuple[str, str, str, nn.Module, nn.Parameter]]:
        prefix = self._prefixes[number]
        for path, module in model.named_modules():
            for leaf, parameter in module.named_parameters(recurse=False):
                name = clean_name(f"{prefix}{path}.{leaf}" if path else f"{prefix}{leaf}")
                if id(parameter) in seen or not self._wanted(name):
                    continue
                seen.add(id(parameter))
                owner = clean_name(f"{prefix}{path}").rstrip(".")
                yield _shorten(name, names), owner, leaf, module, parameter

    def _wanted(self, name: str) -> bool:
        if self._include and not _matches(name, self._include):
            return False
        return not _matches(name, self._exclude)

    def _check(self) -> None:
        if not self.refs:
            chosen = "no parameter matches include= and not exclude=; print model.named_parameters() for their names"
            empty = "the model has no parameter; give watch() the module that is trained, after its layers are made"
            raise ConfigError(
                f"there is nothing to watch: {chosen if self._include or self._exclude else empty}"
            )
        if len(self.refs) > limits.MAX_TENSORS:
            raise ConfigError(
                f"the model has {len(self.refs):,} parameter tensors; at most {limits.MAX_TENSORS:,} are taken. "
                "Choose some with include=, such as include=['encoder.*']"
            )


def _nothing() -> None:
    """In place of a weak reference that was dropped."""


def clean_name(path: str) -> str:
    """A parameter path without the parts that wrappers (DDP, compile, FSDP, checkpointing) put in.

    >>> clean_name("module._orig_mod.layers.0.weight")
    'layers.0.weight'
    """
    return ".".join(part for part in path.split(".") if part not in _WRAPPERS)


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of ``tensor``: the local shard of a DTensor, else the tensor itself."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()


def _part_of(tensor: torch.Tensor) -> tuple[int, int, int]:
    """Which part of a distributed tensor this process holds, of how many, and which copy of that part; (0, 1, 0) for a plain
    tensor."""
    placements = getattr(tensor, "placements", None)
    if placements is None:
        return 0, 1, 0
    mesh = cast(Any, tensor).device_mesh
    shard, shards, replica = 0, 1, 0
    for place, size, placement in zip(mesh.get_coordinate() or (), mesh.shape, placements, strict=False):
        if placement.is_shard():
            shard, shards = shard * size + place, shards * size
        else:
            replica = replica * size + place
    return shard, shards, replica


def _prefixes(models: Sequence[nn.Module]) -> list[str]:
    if len(models) == 1:
        return [""]
    names = [type(_unwrapped(model)).__name__.lower() for model in models]
    return [f"{name}." if names.count(name) == 1 else f"{i}." for i, name in enumerate(names)]


def _unwrapped(model: nn.Module) -> nn.Module:
    for name in _WRAPPERS:
        inner = model._modules.get(name)
        if inner is not None:
            return _unwrapped(inner)
    return model


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in patterns)


def _shorten(name: str, used: dict[str, int]) -> str:
    """``name``, cut to the limit with a hash, and with ``#2`` if it was used before."""
    if len(name) > limits.MAX_NAME - 8:
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        name = f"{name[: limits.MAX_NAME - 24]}~{digest}"
    used[name] = used.get(name, 0) + 1
    return name if used[name] == 1 else f"{name}#{used[name]}"


def _fact(name: str, module_path: str, leaf: str, module: nn.Module, parameter: nn.Parameter) -> Tensor:
    """Everything about a parameter that does not change while it trains."""
    kind = _kind(leaf, module, parameter)
    if _lazy(parameter):
        return Tensor(
            name=name,
            module=module_path,
            kind=kind,
            dtype=_dtype(parameter),
            trainable=parameter.requires_grad,
        )
    matrix = parameter.ndim >= 2
    shard, shards, replica = _part_of(parameter)
    return Tensor(
        name=name,
        shape=tuple(parameter.shape),
        numel=parameter.numel(),
        dtype=_dtype(parameter),
        module=module_path,
        kind=kind,
        fan_in=parameter.numel() // parameter.shape[0]
        if matrix and kind == "weight" and parameter.numel()
        else None,
        init_std=_std(parameter) if matrix else None,
        sparse=bool(getattr(module, "sparse", False)),
        trainable=parameter.requires_grad,
        shard=shard,
        shards=shards,
        replica=replica,
    )


def _lazy(parameter: torch.Tensor) -> bool:
    return bool(is_lazy(parameter))


def _dtype(parameter: torch.Tensor) -> str:
    return str(parameter.dtype).removeprefix("torch.")


def _kind(leaf: str, module: nn.Module, parameter: nn.Parameter) -> Kind:
    if "norm" in type(module).__name__.lower():
        return "norm"
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return "embedding"
    if "bias" in leaf:
        return "bias"
    if _lazy(parameter):
        return "weight" if "weight" in leaf else "other"
    return "weight" if parameter.ndim >= 2 else "other"


def _std(parameter: torch.Tensor) -> float | None:
    """Standard deviation, from at most 4,096 elements evenly apart (relative error about 1 %)."""
    values: Any = local_part(parameter.detach())
    if (
        values.device.type == "meta"
        or values.layout is not torch.strided
        or values.numel() < 2
        or values.is_complex()
        or not values.is_floating_point()
    ):
        return None
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.numel() // _STD_SAMPLE)].double()
    std = float(sample.std())
    return std if std == std and std != float("inf") else None
