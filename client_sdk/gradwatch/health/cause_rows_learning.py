"""Causes of what grows, and of learning that does not start: rows of the table of causes."""

from __future__ import annotations

from typing import Final

from .causes import Cause, Sign, kinds_of

__all__ = ["LEARNING"]


_SINGLE = Sign(4, "it lasted one step", lambda f: f.kind == "spike")
_INPUT = Sign(4, "the input was not finite", lambda f: f.input_bad)
_WEIGHT_JUMP = Sign(4, "one weight tensor changed abruptly", lambda f: f.origin.where == "weights")
_BAD_INIT = Sign(
    3, "the initial weights are far out of range", lambda f: f.gain_high > 3.0 and f.first_step < 40
)
_START = Sign(2, "it was there from the start", lambda f: f.first_step < 20)
_STUCK = Sign(2, "the loss has hardly fallen", lambda f: f.improved < 0.1)
_ALL = Sign(1, "all layers moved at once", lambda f: f.origin.where == "model")
_SPIKED = Sign(2, "it began with a single gradient far above the rest", lambda f: "spike" in f.detectors)

LEARNING: Final[tuple[Cause, ...]] = (
    Cause(
        key="lr_too_high",
        label="The learning rate is too high",
        kinds=kinds_of("exploding diverging oscillating nonfinite spike stalled"),
        required=lambda f: f.group != "depth" and (f.kind != "stalled" or f.ratio > 0.02),
        supporting=(
            Sign(4, "the learning rate was raised shortly before", lambda f: f.sudden_lr),
            Sign(
                3,
                "the updates are large against the weights",
                lambda f: (
                    (f.witness and (f.ratio_high or f.ratio > 0.02))
                    or (f.kind == "stalled" and f.ratio > 0.02)
                    or (f.ratio_peak > 0.2 and f.first_step < 300)
                ),
            ),
            Sign(
                2,
                "it began within the first hundred steps, or while the learning rate rises",
                lambda f: f.early or f.lr_rising,
                lambda f: (
                    "it began within the first hundred steps" if f.early else "the learning rate was rising"
                ),
            ),
            Sign(
                2,
                "the loss or the gradient had been climbing before",
                lambda f: (
                    bool(f.earlier & {"exploding", "diverging", "oscillating"}) or f.kind == "oscillating"
                ),
            ),
            Sign(1, "successive gradients point against each other", lambda f: f.cosine < -0.1),
            _ALL,
        ),
        contradicting=(
            _SINGLE,
            _INPUT,
            _WEIGHT_JUMP,
            _BAD_INIT,
            Sign(4, "the loss goes on sinking below zero", lambda f: "unbounded" in f.detectors),
            Sign(
                3,
                "most of each update is weight decay",
                lambda f: f.lr * f.weight_decay > max(0.5 * f.ratio, 0.01),
            ),
            Sign(
                2,
                "the updates are of the usual size",
                lambda f: f.ratio < 3e-3 and not f.ratio_high and not (f.early and f.ratio_peak > 0.2),
            ),
            Sign(
                2, "the learning rate is as before, and its updates were of a usual size", lambda f: f.steady
            ),
            Sign(
                3,
                "one module alone is not finite",
                lambda f: (
                    f.kind == "nonfinite"
                    and f.origin.where == "tensor"
                    and not f.earlier & {"exploding", "diverging"}
                    and not f.ratio_peak > 1.0
                ),
            ),
        ),
        remedies=("lr_cut", "checkpoint", "warmup", "clip_norm"),
        help="learning-rate",
    ),
    Cause(
        key="outlier_batch",
        label="An outlier batch",
        kinds=kinds_of("spike exploding diverging"),
        required=lambda f: f.group != "depth",
        supporting=(
            Sign(4, "it lasted one step", lambda f: f.kind == "spike"),
            Sign(2, "the learning rate did not change", lambda f: f.lr > 0 and not f.sudden_lr),
            Sign(1, "the updates were of the usual size before", lambda f: f.ratio_usual < 0.02),
            _SPIKED,
        ),
        contradicting=(
            Sign(4, "the learning rate was raised shortly before", lambda f: f.sudden_lr),
            Sign(3, "it lasts", lambda f: f.kind != "spike" and f.step - f.first_step >= 8),
            _WEIGHT_JUMP,
            Sign(2, "it was there from the start", lambda f: f.early),
        ),
        remedies=("skip_batch", "clip_norm", "clip_value", "check_input"),
        help="clipping",
    ),
    Cause(
        key="data_changed",
        label="The data or the task changed",
        kinds=kinds_of("diverging exploding"),
        required=lambda f: f.first_step >= 100 and f.group != "depth",
        supporting=(
            Sign(
                3,
                "neither learning rate nor updates rose before",
                lambda f: f.steady,
            ),
            Sign(2, "the loss moved before the gradients", lambda f: f.detectors[0] == "diverging"),
            Sign(1, "the loss was far below its start before", lambda f: f.loss_before < 0.7 * f.loss_start),
            Sign(2, "the first layer leads", lambda f: f.origin.where == "tensor" and f.first_layer),
        ),
        contradicting=(
            _WEIGHT_JUMP,
            Sign(3, "the learning rate rose before", lambda f: f.sudden_lr),
            Sign(3, "the updates are large against the weights", lambda f: f.witness and f.ratio_high),
            Sign(
                3,
                "the loss went far beyond its start, with inputs as large as before",
                lambda f: f.loss_peak > 4.0 * f.loss_start and f.input_rms > 0 and not f.input_rose,
            ),
        ),
        remedies=("check_input", "clip_norm", "phase", "checkpoint"),
        help="exploding",
    ),
    Cause(
        key="weights_damaged",
        label="A weight tensor was changed from outside, or damaged",
        kinds=kinds_of("exploding diverging nonfinite spike"),
        required=lambda f: f.origin.where == "weights",
        supporting=(
            Sign(4, "its norm jumped while the others' did not", lambda f: f.origin.where == "weights"),
            Sign(1, "the learning rate did not change", lambda f: not f.sudden_lr),
        ),
        contradicting=(
            Sign(3, "an explosion came before", lambda f: bool(f.earlier & {"exploding", "diverging"})),
        ),
        remedies=("checkpoint", "restore", "clip_norm"),
        help="exploding",
    ),
    Cause(
        key="unscaled_input",
        label="The inputs are not scaled",
        kinds=kinds_of("exploding diverging nonfinite spike dead bad_init oscillating"),
        required=lambda f: f.input_rms > 10.0 and f.group != "depth",
        supporting=(
            Sign(4, "the inputs are many times larger than 1", lambda f: f.input_rms > 30.0),
            Sign(2, "the first layer holds most of the gradient", lambda f: f.first_layer_share > 0.5),
            _START,
        ),
        contradicting=(
            _WEIGHT_JUMP,
            Sign(4, "the learning rate was raised shortly before", lambda f: f.sudden_lr),
            Sign(
                3, "it came later, with the same inputs", lambda f: f.first_step >= 100 and not f.input_rose
            ),
        ),
        remedies=("standardise", "check_input", "lr_cut"),
        help="initialisation",
    ),
    Cause(
        key="init_too_large",
        label="The initial weights are too large",
        kinds=kinds_of("bad_init exploding diverging nonfinite"),
        required=lambda f: (
            f.first_step < 40 and (f.gain_high > 1.8 or f.forward_gain > 0.5 or f.back_gain > 0.5)
        ),
        supporting=(
            Sign(4, "std x sqrt(fan-in) is far above He init's 1.41", lambda f: f.gain_high > 2.0),
            Sign(
                2,
                "gradients or activations grow from layer to layer",
                lambda f: f.back_gain > 0.5 or f.forward_gain > 0.5,
            ),
            _START,
        ),
        remedies=("init_he", "normalise", "init_xavier", "clip_norm"),
        help="initialisation",
    ),
    Cause(
        key="init_too_small",
        label="The initial weights are too small for this depth",
        kinds=kinds_of("bad_init vanishing stalled"),
        required=lambda f: f.gain < 1.2 and (f.kind != "stalled" or f.improved < 0.1),
        supporting=(
            Sign(3, "std x sqrt(fan-in) is well below He init's 1.41", lambda f: f.gain < 0.8),
            Sign(
                3,
                "the loss of gradient per layer is what this init gives with ReLU",
                lambda f: abs(f.back_gain - f.relu_gain) < 0.6,
            ),
            Sign(2, "std x sqrt(fan-in) is below any known scheme", lambda f: f.gain < 0.3),
            _STUCK,
        ),
        contradicting=(
            Sign(
                5,
                "gradients do not shrink from layer to layer",
                lambda f: f.kind == "stalled" and f.gain > 0.3 and (f.layers < 6 or f.back_gain > -0.3),
            ),
            Sign(
                3,
                "gradients shrink much faster per layer than this init explains",
                lambda f: f.back_gain < f.relu_gain - 0.6,
            ),
        ),
        remedies=("init_he", "normalise", "init_xavier"),
        help="initialisation",
    ),
    Cause(
        key="saturating_activation",
        label="Saturating activations (sigmoid or tanh) in a deep network",
        kinds=kinds_of("vanishing saturated stalled"),
        required=lambda f: f.kind == "saturated" or f.back_gain < -0.4,
        supporting=(
            Sign(4, "units were seen in the flat part of their activation", lambda f: f.kind == "saturated"),
            Sign(
                4,
                "gradients shrink faster per layer than the init explains",
                lambda f: f.back_gain < (f.relu_gain if f.relu_gain == f.relu_gain else -1.3) - 0.6,
            ),
            Sign(1, "there are no normalisation layers", lambda f: not f.normalised),
        ),
        contradicting=(
            Sign(
                3,
                "the loss of gradient per layer is what this init gives with ReLU",
                lambda f: abs(f.back_gain - f.relu_gain) < 0.5,
            ),
        ),
        remedies=("relu", "normalise", "init_xavier", "lr_cut"),
        help="vanishing",
    ),
    Cause(
        key="no_normalisation",
        label="Many layers without normalisation or residual connections",
        kinds=kinds_of("vanishing exploding"),
        required=lambda f: f.layers >= 8 and not f.normalised and f.group in ("depth", ""),
        supporting=(
            Sign(
                2, "gradients change by the same factor from layer to layer", lambda f: abs(f.back_gain) > 0.4
            ),
            Sign(1, "there are no normalisation layers", lambda f: not f.normalised),
            Sign(2, "the initial weights are of a usual size", lambda f: 0.9 < f.gain < 1.8),
        ),
        remedies=("normalise", "init_he"),
        help="vanishing",
    ),
    Cause(
        key="recurrence",
        label="Repeated multiplication in the recurrent layer",
        kinds=kinds_of("exploding diverging vanishing nonfinite spike"),
        required=lambda f: f.recurrent,
        supporting=(
            Sign(3, "the recurrent weights lead", lambda f: f.recurrent_leads),
            Sign(1, "gradients are not clipped", lambda f: f.clip_limit != f.clip_limit),
            Sign(1, "the learning rate did not change", lambda f: not f.sudden_lr),
        ),
        contradicting=(
            Sign(2, "the learning rate was raised shortly before", lambda f: f.sudden_lr),
            Sign(
                4,
                "a weight was damaged without any rise before",
                lambda f: f.origin.where == "weights" and not f.earlier & {"exploding", "diverging"},
            ),
        ),
        remedies=("clip_norm", "init_xavier", "lr_cut"),
        help="clipping",
    ),
    Cause(
        key="stale_adam",
        label="Adam's second moment lags behind the gradients",
        kinds=kinds_of("spike exploding diverging"),
        required=lambda f: f.adam_ratio >= 2.3,
        supporting=(
            Sign(3, "gradients are more than 2.3 times what Adam expects", lambda f: f.adam_ratio >= 2.3),
            Sign(2, "beta2 is 0.99 or more", lambda f: f.beta2 >= 0.99),
        ),
        contradicting=(Sign(3, "the learning rate was raised shortly before", lambda f: f.sudden_lr),),
        remedies=("beta2", "clip_norm", "warmup"),
        help="optimizers",
    ),
)
