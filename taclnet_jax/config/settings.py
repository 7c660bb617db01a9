"""Every setting of a run: default, meaning, and what it may be. Those of the data are in data.py.

Files in `configs/` change what a run needs. A class that names a block stands in the configuration
under that name (`config.model.name`); the fields of the others stand at its top (`config.fold`).
"""

import os
from dataclasses import dataclass
from typing import Any, Literal

from taclnet_jax.config.data import DataSettings, SamplingSettings
from taclnet_jax.config.schema import Settings, block, setting
from taclnet_jax.errors import InputError


@dataclass(frozen=True)
class ModelSettings(Settings, block='model'):
    """The network."""

    name: str = setting(
        'convlstm', "convlstm is the poster's.", registry='taclnet_jax.models:MODELS'
    )
    hidden: tuple[int, ...] = setting(
        (16, 8),
        'convlstm: channels of the layers before the last, which has one a section.',
        low=1,
        high=4096,
    )
    kernel: int = setting(3, 'convlstm: side of the kernels, odd.', low=1, high=99)
    features: tuple[int, ...] = setting(
        (), "The others: channels of each level; () = the model's own default.", low=1, high=4096
    )
    normalise: bool = setting(
        False, 'unet, recurrent_unet, mosinska: batch normalisation after each 3x3 convolution.'
    )
    iterations: int = setting(
        0,
        'The others but dive: how often they are applied, each time seeing what they predicted '
        "before; 0 = the model's own default: 3 of mosinska, else 1.",
        low=0,
        high=100,
    )
    rematerialise: bool = setting(
        False,
        'All but dive: what lies inside of blocks and ConvLSTM cells is computed again for the '
        'gradient instead of being kept. Less memory, more time; beyond rounding the same.',
        role='free',
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel % 2 == 0:
            raise InputError(f'Expected config.model.kernel to be odd; found {self.kernel}.')


@dataclass(frozen=True)
class AttentionSettings(Settings, block='attention'):
    """STA and ITA."""

    kind: Literal['none', 'sta', 'ita'] = setting(
        'ita', 'In phase two: plain network, STA, or STA and ITA (TACLNet).'
    )
    form: str = setting(
        'refined',
        "The loss of phase two: refined (of P_hat, the poster's), straight_through (of P_hat, with "
        'a derivative where it is clipped), both (of P and P_hat) or weighted (of P, more where o '
        'is high).',
        registry='taclnet_jax.losses:ATTENTION_FORMS',
    )
    alpha: float = setting(1.0, 'Weight of the attention o in P_hat.', low=0, high=1000)
    beta: float = setting(0.5, 'Weight of the epoch before in ITA.', low=0, high=1)
    sigma: float = setting(1.0, "Of the critical maps' Gaussian, in pixels.", low=1e-3)
    min_persistence: float = setting(
        0.1, 'Of the loops whose critical points count, in P.', low=0, high=1
    )
    border: Literal['membrane', 'open'] = setting('membrane', "What the window's frame counts as.")
    backend: str = setting(
        'gudhi',
        'gudhi (host callback) or xla (on the device).',
        registry='taclnet_jax.topology:BACKENDS',
        role='free',
    )

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of `taclnet_jax.sta_attention`."""
        names = ('alpha', 'sigma', 'min_persistence', 'border', 'backend')
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class TopologicalLossSettings(Settings, block='topological_loss'):
    """Added in phase two: the distance of persistence diagrams from the truth's (TopoLoss)."""

    weight: float = setting(0.0, 'Of the term.', low=0)
    patch: int = setting(64, 'Side of the patches, in pixels.', low=8)


@dataclass(frozen=True)
class PerceptualLossSettings(Settings, block='perceptual_loss'):
    """Added in phase two: the distance of VGG19's features of prediction and truth (Mosin.)."""

    weight: float = setting(0.0, 'Of the term.', low=0)
    vgg19: str = setting('', "The weights, an .npz (docs/configuration.md); '' = random features.")


@dataclass(frozen=True)
class LossSettings(Settings):
    """What is minimised beside attention."""

    loss: str = setting(
        'cross_entropy',
        'cross_entropy_dice is its sum with the soft Dice loss.',
        registry='taclnet_jax.losses:LOSSES',
    )
    topological_loss: TopologicalLossSettings = block(TopologicalLossSettings(), 'phase_two')
    perceptual_loss: PerceptualLossSettings = block(PerceptualLossSettings(), 'phase_two')


# --- Training


@dataclass(frozen=True)
class OptimizerSettings(Settings, block='optimizer'):
    """How parameters are updated."""

    name: str = setting('rmsprop', 'By name.', registry='taclnet_jax.training.optimizer:OPTIMIZERS')
    decay: float = setting(0.99, "Of rmsprop's mean square.", low=0, high=1)
    weight_decay: float = setting(0.0, 'Of the parameters.', low=0)
    average: float = setting(
        0.0,
        'A moving average of the parameters, of which each update leaves so much, is what is '
        'validated and used after training; 0 = the parameters themselves.',
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class PhaseOneSettings(Settings, block='phase_one'):
    """The network alone, loss over all slices."""

    epochs: int = setting(350, 'Passes over the crops.', low=0, high=100_000)
    learning_rate: float = setting(1e-3, 'At its beginning.', low=0)
    schedule: str = setting(
        'halving', 'Of the rate.', registry='taclnet_jax.training.optimizer:SCHEDULES'
    )
    halve_every: int = setting(50, 'Epochs, of the schedule halving.', low=1, high=100_000)


@dataclass(frozen=True)
class PhaseTwoSettings(Settings, block='phase_two'):
    """Loss of P_hat (of P without attention) at the target, at a constant rate."""

    epochs: int = setting(15, 'Passes over the crops.', low=0, high=100_000)
    learning_rate: float = setting(1e-5, 'Throughout.', low=0)


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """How long, how fast, and from where."""

    optimizer: OptimizerSettings = OptimizerSettings()
    phase_one: PhaseOneSettings = PhaseOneSettings()
    phase_two: PhaseTwoSettings = block(PhaseTwoSettings(), 'phase_two')
    microbatches: int = setting(
        1,
        "Parts of a device's batch that go through the network one after the other, which takes "
        'less memory: the update is that of the mean of their losses.',
        low=1,
    )
    start_from: str = setting(
        '',
        'A run of the same phase one to go on from: its <workdir>/checkpoints/phase_one.',
        role='free',
    )
    initialise_from: str = setting(
        '',
        'A model of the same network, whose parameters are the first: the workdir of a run, an '
        'exported folder, or a name that is shipped.',
        role='free',
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.phase_one.epochs + self.phase_two.epochs == 0:
            raise InputError(
                'Expected at least one epoch in config.phase_one.epochs or '
                'config.phase_two.epochs; found none.'
            )
        if self.start_from and self.initialise_from:
            raise InputError(
                'Expected config.start_from, which goes on from the end of a phase one, or '
                'config.initialise_from, which begins anew; found both.'
            )


@dataclass(frozen=True)
class CheckpointSettings(Settings, block='checkpoint'):
    """What is kept of a run."""

    every_epochs: int = setting(1, 'Between two that a stopped run goes on from.', low=1)
    keep: int = setting(3, 'Of these.', low=1)
    best_metric: str = setting(
        'voi',
        'Of the validation sections; the best checkpoint of the last phase is kept as well.',
        registry='taclnet_jax.metrics:MAIN',
        role='scoring',
    )


@dataclass(frozen=True)
class EvaluateSettings(Settings, block='evaluate'):
    """How a network is validated and scored."""

    every_epochs: int = setting(1, 'Validation during training.', low=1)
    threshold: float = setting(0.5, 'From this P (or P_hat) on is membrane.', low=0, high=1)
    threshold_from: Literal['fixed', 'training', 'validation'] = setting(
        'fixed',
        'That threshold, or the one of the lowest VOI on training or validation sections, which '
        'then choose how membranes are closed, too; with fixed, half of the threshold closes.',
    )
    threshold_sections: int = setting(20, 'At most so many of them are tried.', low=1)
    test_sections: int = setting(0, 'Score at most so many, evenly spread; 0 = all.', low=0)
    views: Literal[1, 4, 8] = setting(
        1, 'After training P is the mean over so many flips (4) and rotations (8) of a section.'
    )
    tile_px: int = setting(
        1024,
        'Larger sections go through the network in tiles, each with a halo as wide as the network '
        'sees; memory follows from it.',
        low=64,
        role='free',
    )
    window_px: int = setting(
        1024,
        'Sections beyond one and a half of it are attended to in windows, on a fixed grid; in '
        'pixels of the network.',
        low=16,
    )
    window_halo_px: int = setting(
        128, 'Width over which the attention of neighbouring windows fades into each other.', low=1
    )
    betti_patch: int = setting(64, "Side of the Betti error's patches.", low=1)
    betti_patches: int = setting(100, 'Their number.', low=1, high=100_000)
    betti_seed: int = setting(0, 'What draws them.', low=0)
    picture_every: int = setting(4, 'Test sections.', low=1, role='free')

    def __post_init__(self) -> None:
        super().__post_init__()
        if 4 * self.window_halo_px > self.window_px:
            raise InputError(
                'Expected config.evaluate.window_halo_px to be at most a quarter of window_px, '
                f'{self.window_px}; found {self.window_halo_px}.'
            )


@dataclass(frozen=True)
class RunSettings(Settings):
    """All settings of a run: TACLNet as the poster has it, on the synthetic volume."""

    seed: int = setting(
        0, 'Everything random follows from it: parameters, order of samples, augmentation.', low=0
    )
    data: DataSettings = DataSettings()
    sampling: SamplingSettings = SamplingSettings()
    model: ModelSettings = ModelSettings()
    precision: Literal['float32', 'bfloat16'] = setting(
        'float32', "Of the network's arithmetic; topology and attention are in float32."
    )
    attention: AttentionSettings = block(AttentionSettings(), 'phase_two')
    losses: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    checkpoint: CheckpointSettings = block(CheckpointSettings(), 'free')
    evaluate: EvaluateSettings = block(EvaluateSettings(), 'scoring')

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluate.threshold_from == 'validation' and not self.sampling.validation_sections:
            raise InputError(
                'Expected config.validation_sections above 0 for '
                "evaluate.threshold_from='validation'; found 0. Hold some out, or take 'training' "
                "or 'fixed'."
            )

    @property
    def inference_options(self) -> dict[str, Any]:
        """The keywords of `taclnet_jax.inference.create_inference`, all but `views`."""
        return {
            'slices': self.sampling.slices,
            'downsample': self.data.downsample,
            'tile_px': self.evaluate.tile_px,
            'window_px': self.evaluate.window_px,
            'window_halo_px': self.evaluate.window_halo_px,
            'attention': self.attention.options,
        }


def default_settings() -> RunSettings:
    """The defaults, with the raw files where TACLNET_DATA_DIR says."""
    return RunSettings(data=DataSettings(data_dir=os.environ.get('TACLNET_DATA_DIR', '')))
