"""Names, kinds and order of parameters."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from gradwatch.protocol import limits
from gradwatch.torch_.catalog import Catalog, clean_name

from .conftest import mlp


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("module.layers.0.weight", "layers.0.weight"),
        ("_orig_mod.module.a.bias", "a.bias"),
        ("a._fsdp_wrapped_module.b._checkpoint_wrapped_module.weight", "a.b.weight"),
        ("modules.0.weight", "modules.0.weight"),
    ],
)
def test_wrappers_are_stripped(path: str, name: str) -> None:
    assert clean_name(path) == name


class Mixed(nn.Module):
    """One of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4, sparse=True)
        self.linear = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(6)
        self.conv = nn.Conv2d(2, 4, 3)
        self.gru = nn.GRU(4, 5)
        self.scale = nn.Parameter(torch.ones(3))


def test_kinds_fan_in_and_shapes() -> None:
    tensors = {t.name: t for t in Catalog([Mixed()]).tensors(range(100), {})}
    assert {name: t.kind for name, t in tensors.items()} == {
        "scale": "other",
        "embed.weight": "embedding",
        "linear.weight": "weight",
        "linear.bias": "bias",
        "norm.weight": "norm",
        "norm.bias": "norm",
        "conv.weight": "weight",
        "conv.bias": "bias",
        "gru.weight_ih_l0": "weight",
        "gru.weight_hh_l0": "weight",
        "gru.bias_ih_l0": "bias",
        "gru.bias_hh_l0": "bias",
    }
    assert tensors["linear.weight"].fan_in == 4 and tensors["conv.weight"].fan_in == 18
    assert tensors["embed.weight"].sparse and not tensors["linear.weight"].sparse
    assert tensors["conv.weight"].shape == (4, 2, 3, 3) and tensors["conv.weight"].numel == 72
    assert tensors["conv.weight"].module == "conv" and tensors["scale"].module == ""


def test_initial_spread_is_that_of_the_weights() -> None:
    model = nn.Linear(300, 400)
    nn.init.normal_(model.weight, std=0.02)
    weight, bias = Catalog([model]).tensors([0, 1], {})
    assert weight.init_std == pytest.approx(0.02, rel=0.05) and bias.init_std is None


def test_long_and_equal_names_are_made_usable() -> None:
    inner: nn.Module = nn.Linear(1, 1)
    for _ in range(60):
        outer = nn.Module()
        outer.add_module("a_rather_long_name", inner)
        inner = outer
    names = [t.name for t in Catalog([inner]).tensors([0, 1], {})]
    assert len(set(names)) == 2 and all(len(name) <= limits.MAX_NAME for name in names)
    twice = nn.Module()
    twice.add_module("module", nn.Linear(1, 1, bias=False))
    twice.weight = nn.Parameter(torch.ones(1))
    assert sorted(t.name for t in Catalog([twice]).tensors([0, 1], {})) == ["weight", "weight#2"]


def test_depth_is_forward_order_with_modules_kept_together() -> None:
    catalog = Catalog([mlp()])
    # a backward of the chain 4 -> 2 -> 0, had it been used in the order 2, 0, 4
    order = [5, 4, 1, 0, 3, 2]
    assert catalog.depths(order) == [2, 3, 0, 1, 4, 5]
    assert catalog.depths([]) == [0, 1, 2, 3, 4, 5]


def test_modules_without_a_gradient_follow_their_neighbour() -> None:
    catalog = Catalog([mlp()])
    assert catalog.depths([1, 0, 5, 4]) == [2, 3, 4, 5, 0, 1]


def test_a_lazy_parameter_is_described_once_it_has_a_shape() -> None:
    model = nn.Sequential(nn.LazyLinear(3))
    catalog = Catalog([model])
    assert catalog.tensors([0, 1], {})[0].shape == ()
    model(torch.ones(2, 5))
    assert catalog.scan()
    assert catalog.tensors([0, 1], {})[0].shape == (3, 5)
    assert not catalog.scan()


def test_training_is_no_change() -> None:
    model = mlp()
    catalog = Catalog([model])
    with torch.no_grad():
        model[0].weight.mul_(3)
    assert not catalog.scan()


def test_a_mapping_names_its_models() -> None:
    names = [t.name for t in Catalog({"teacher": mlp((2, 2)), "student": mlp((2, 2))}).tensors(range(4), {})]
    assert names == ["teacher.0.weight", "teacher.0.bias", "student.0.weight", "student.0.bias"]


def test_parameters_outlive_a_container_made_for_the_call() -> None:
    a, b = nn.Linear(2, 3), nn.Linear(3, 1)
    catalog = Catalog([nn.ModuleList([a, b])])
    gc.collect()
    assert not catalog.scan()
    assert [t.name for t in catalog.tensors(range(4), {})] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert catalog.model_of(catalog.column(b.weight)) == 0
    del a
    gc.collect()
    assert catalog.scan() and [t.name for t in catalog.tensors(range(2), {})] == ["1.weight", "1.bias"]
