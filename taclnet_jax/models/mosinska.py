"""The network of Mosinska et al. (2018): a U-Net that refines its own prediction."""

from taclnet_jax.models.unet import UNet


class Mosinska(UNet):
    """A U-Net applied several times with the same weights ("Beyond the pixel-wise loss ...").

    Its two inputs are a section and the probabilities it predicted the time before, zeros at first
    (the paper's y_{k+1} = f(x, y_k)). Each section of the window goes through it alone.
    1,940,961 parameters by default: those of `UNet` and the second input's.

    The gradient flows back through all predictions, `iterations`. The paper adds the distance of
    VGG19 features to the cross-entropy, see `taclnet_jax.losses.perceptual_distance`. What the
    U-Net of this package does differently, and the attributes: see `UNet`.
    """

    iteration_count: int = 3
