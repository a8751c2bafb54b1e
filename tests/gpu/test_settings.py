"""The settings of doctor on the device: right to the bit, and as cheap as said."""

from __future__ import annotations

import pytest
import torch

from gradwatch.doctor.bench import Setting, examine
from gradwatch.doctor.settings import SETTINGS


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("setting", [pytest.param(one, id=one.key) for one in SETTINGS])
def test_norms_are_right_and_training_is_the_same_to_the_bit(setting: Setting, device: torch.device) -> None:
    assert setting.lacks(device) == ""
    assert examine(setting, device).trouble == ""
