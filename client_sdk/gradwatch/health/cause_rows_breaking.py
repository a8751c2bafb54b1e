"""Causes of what breaks, dies or stands still: rows of the table of causes."""

from __future__ import annotations

from typing import Final

from .causes import Cause, Sign, kinds_of

__all__ = ["BREAKING"]

_INPUT = Sign(4, "the input was not finite", lambda f: f.input_bad)

BREAKING: Final[tuple[Cause, ...]] = (
    Cause(
        key="no_floor",
        label="The loss has no lower bound: its sign, or that of a term, is wrong",
        kinds=kinds_of("exploding"),
        required=lambda f: "unbounded" in f.detectors,
        supporting=(Sign(4, "the loss goes on sinking below zero", lambda f: "unbounded" in f.detectors),),
        remedies=("check_loss",),
        help="exploding",
    ),
    Cause(
        key="weight_decay",
        label="Weight decay shrinks the weights faster than they learn",
        kinds=kinds_of("stalled vanishing diverging"),
        required=lambda f: f.lr * f.weight_decay >= 0.01,
        supporting=(
            Sign(
                3,
                "it alone takes more than 1 % of the weights at each step",
                lambda f: f.lr * f.weight_decay >= 0.01,
            ),
            Sign(3, "most of each update is the decay", lambda f: f.lr * f.weight_decay > 0.5 * f.ratio),
        ),
        remedies=("less_decay",),
        help="optimizers",
    ),
    Cause(
        key="lr_decayed",
        label="The learning rate has run out: its schedule ends too soon",
        kinds=kinds_of("stalled"),
        required=lambda f: f.lr < 0.01 * f.lr_peak,
        supporting=(
            Sign(
                4, "the learning rate is less than a hundredth of its peak", lambda f: f.lr < 0.01 * f.lr_peak
            ),
            Sign(2, "the loss has hardly fallen", lambda f: f.improved < 0.1),
        ),
        remedies=("schedule",),
        help="learning-rate",
    ),
    Cause(
        key="numerical_bug",
        label="An operation in one module gives NaN or Inf",
        kinds=kinds_of("nonfinite"),
        required=lambda f: f.origin.where in ("tensor", "loss"),
        supporting=(
            Sign(3, "gradients were of the usual size before", lambda f: not f.rise > 3.0),
            Sign(3, "only the layers up to one module are hit", lambda f: f.origin.where == "tensor"),
            Sign(2, "the loss itself was finite", lambda f: f.loss_finite),
        ),
        contradicting=(
            Sign(
                4,
                "an explosion came before",
                lambda f: bool(f.earlier & {"exploding", "diverging", "bad_init"}),
            ),
            _INPUT,
            Sign(2, "the learning rate was raised shortly before", lambda f: f.sudden_lr),
            Sign(2, "the updates are large against the weights", lambda f: f.ratio_high or f.ratio > 0.05),
            Sign(
                4, "a single step changed the weights by more than their size", lambda f: f.ratio_peak > 1.0
            ),
            Sign(4, "the inputs are large", lambda f: f.input_rms > 30.0 and f.early),
        ),
        remedies=("eps", "anomaly", "checkpoint"),
        help="nonfinite",
    ),
    Cause(
        key="bad_input",
        label="The input holds NaN or Inf",
        kinds=kinds_of("nonfinite"),
        required=lambda f: f.origin.where in ("input", "loss"),
        supporting=(
            Sign(4, "the input was not finite", lambda f: f.input_bad),
            Sign(
                2,
                "all gradients are hit at once, without any rise before",
                lambda f: (
                    f.origin.where == "loss"
                    and not f.rise > 3.0
                    and not f.earlier & {"exploding", "diverging"}
                ),
            ),
        ),
        remedies=("check_input", "anomaly"),
        help="nonfinite",
    ),
    Cause(
        key="half_range",
        label="Values beyond the range of float16",
        kinds=kinds_of("loss_scale nonfinite"),
        required=lambda f: f.scaled or f.half,
        supporting=(
            Sign(4, "the loss scaler skips step after step", lambda f: f.kind == "loss_scale"),
            Sign(2, "the tensors are in float16, or a loss scaler is used", lambda f: f.scaled or f.half),
        ),
        remedies=("bf16", "init_scale", "clip_norm"),
        help="nonfinite",
    ),
    Cause(
        key="dead_relu_shock",
        label="ReLU units died in a jump of the weights",
        kinds=kinds_of("dead"),
        required=lambda f: not f.never_alive,
        supporting=(
            Sign(
                3,
                "an explosion or spike came shortly before",
                lambda f: bool(f.earlier & {"exploding", "spike", "diverging"}),
            ),
            Sign(2, "the updates were large against the weights", lambda f: f.ratio_high or f.ratio > 0.02),
            Sign(4, "a single step changed the weights by a fifth or more", lambda f: f.ratio_peak > 0.2),
            Sign(2, "the units were alive before", lambda f: not f.never_alive and f.first_step > 20),
        ),
        remedies=("lr_cut", "leaky", "checkpoint", "clip_norm"),
        help="vanishing",
    ),
    Cause(
        key="dead_from_start",
        label="A bias or input that keeps the units off from the start",
        kinds=kinds_of("dead"),
        supporting=(
            Sign(4, "the gradient was never anything but zero", lambda f: f.never_alive),
            Sign(2, "it was there from the start", lambda f: f.first_step < 100),
        ),
        contradicting=(
            Sign(
                3,
                "an explosion or spike came shortly before",
                lambda f: bool(f.earlier & {"exploding", "spike", "diverging"}),
            ),
            Sign(3, "a single step changed the weights by a fifth or more", lambda f: f.ratio_peak > 0.2),
            Sign(3, "the units were alive at first", lambda f: not f.never_alive and f.first_step > 8),
        ),
        remedies=("leaky", "standardise", "init_he"),
        help="initialisation",
    ),
    Cause(
        key="lr_too_low",
        label="The learning rate is too low",
        kinds=kinds_of("stalled"),
        required=lambda f: f.lr > 0 and f.ratio != 0,
        supporting=(
            Sign(4, "each step hardly changes the weights", lambda f: f.ratio < 2e-5),
            Sign(2, "the loss has hardly fallen", lambda f: f.improved < 0.1),
        ),
        contradicting=(
            Sign(3, "clipping cuts each step", lambda f: f.clip_coef < 0.1 and f.family == "sgd"),
            Sign(3, "the updates are of a usual size", lambda f: f.ratio > 2e-4),
            Sign(
                6, "the learning rate was a hundred times as high at first", lambda f: f.lr < 0.01 * f.lr_peak
            ),
        ),
        remedies=("lr_up",),
        help="learning-rate",
    ),
    Cause(
        key="clip_limit",
        label="The clip limit is far below the usual norm",
        kinds=kinds_of("clip_too_tight stalled"),
        required=lambda f: f.kind == "clip_too_tight" or f.clip_coef < 0.1,
        supporting=(
            Sign(
                4,
                "clipping cuts each step to less than a tenth",
                lambda f: f.kind == "clip_too_tight" or f.clip_coef < 0.1,
            ),
            Sign(1, "with SGD the step shrinks with it", lambda f: f.family == "sgd"),
        ),
        remedies=("clip_raise",),
        help="clipping",
    ),
    Cause(
        key="noise",
        label="Noise hides the slope, or the model has learnt what it can",
        kinds=kinds_of("stalled"),
        supporting=(
            Sign(2, "the updates are of a usual size", lambda f: f.ratio > 1e-4),
            Sign(1, "successive gradients share no direction", lambda f: abs(f.cosine) < 0.1),
        ),
        remedies=("bigger_batch", "lr_cut"),
        help="learning-rate",
    ),
    Cause(
        key="detached",
        label="A part of the model is not in the graph",
        kinds=kinds_of("disconnected"),
        required=lambda f: "never_moves" not in f.detectors,
        supporting=(Sign(4, "it never got a gradient", lambda f: f.absent or f.never_alive),),
        remedies=("attach", "freeze"),
        help="detectors",
    ),
    Cause(
        key="not_in_optimizer",
        label="Parameters are missing from the optimizer",
        kinds=kinds_of("disconnected"),
        required=lambda f: f.orphans,
        supporting=(Sign(4, "it gets a gradient, but no optimizer holds it", lambda f: f.orphans),),
        remedies=("optimizer_groups", "freeze"),
        help="detectors",
    ),
    Cause(
        key="lost_update",
        label="The update is lost: too small for the weights' precision, or a learning rate of zero",
        kinds=kinds_of("disconnected"),
        required=lambda f: "never_moves" in f.detectors,
        supporting=(Sign(4, "the update is exactly zero", lambda f: "never_moves" in f.detectors),),
        remedies=("master_weights", "optimizer_groups"),
        help="optimizers",
    ),
    Cause(
        key="missing_zero_grad",
        label="Gradients are not cleared between steps",
        kinds=kinds_of("accumulating"),
        supporting=(
            Sign(4, "each gradient contains the one before", lambda f: f.cosine > 0.9),
            Sign(1, "it was there from the start", lambda f: f.first_step < 20),
        ),
        remedies=("zero_grad", "accumulation"),
        help="detectors",
    ),
    Cause(
        key="hardware",
        label="A faulty device, or a bad shard of the data, on one rank",
        kinds=kinds_of("bad_rank"),
        supporting=(Sign(4, "only this rank differs", lambda f: f.kind == "bad_rank"),),
        remedies=("drain_rank", "check_input"),
        help="detectors",
    ),
    Cause(
        key="overfit",
        label="The model learns the training data by heart",
        kinds=kinds_of("overfitting"),
        supporting=(
            Sign(4, "validation worsens while training improves", lambda f: f.kind == "overfitting"),
        ),
        remedies=("early_stop", "checkpoint"),
        help="early-stopping",
    ),
    Cause(
        key="blocked",
        label="The process waits: data loading, a collective, or it is gone",
        kinds=kinds_of("stopped"),
        supporting=(Sign(2, "no step comes", lambda f: f.kind == "stopped"),),
        remedies=("check_loader",),
        help="health",
    ),
)
