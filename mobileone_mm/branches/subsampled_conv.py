"""A strided 1x1 convolution that does not crash."""

from torch import Tensor, nn


class SubsampledPointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution that subsamples its input instead of striding, with the same numbers.

    torch (2.13, CPU) kills the process in the backward pass of a strided 1x1 convolution with
    channels_last weights and few channels, such as the stem's 1x1 branch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, ceil(H / stride), ceil(W / stride))."""
        x = x[:, :, ::self.stride[0], ::self.stride[1]]
        return nn.functional.conv2d(x, self.weight, self.bias, groups=self.groups)
