"""Convolutions: every output element is one dot product over the taps of its group, padded taps included."""

from math import prod

from graphrewrite.cost.registry import macs_rule, ops_rule
from graphrewrite.cost.site import Site


def _taps(site: Site, weight_index: int) -> int:
    """Return the products behind one output element: weight is [out, in/group, k...]."""
    return prod(site.input(weight_index)[1:])


@macs_rule("Conv", "ConvInteger")
@macs_rule("FusedConv", "NhwcConv", "NhwcFusedConv", domain="com.microsoft")
@macs_rule("Conv", domain="com.microsoft.nchwc")
def conv(site: Site) -> int:
    """Outputs times taps; where the channel axis of the output lies does not matter."""
    return site.output_count() * _taps(site, 1)


@macs_rule("DeformConv")
def deform_conv(site: Site) -> int:
    """As a convolution; fetching the taps between pixels is counted in `ops`."""
    return conv(site)


@ops_rule("DeformConv")
def deform_conv_sampling(site: Site) -> int:
    """Each tap of each input channel is blended from four neighbours at each output pixel.

    x is [N, C, H, W], the weight [out, C/group, kh, kw].
    """
    batch, channels = site.input(0)[:2]
    return 4 * batch * channels * prod(site.output()[2:]) * prod(site.input(1)[2:])


@macs_rule("QLinearConv")
@macs_rule("QLinearConv", domain="com.microsoft")
def qlinear_conv(site: Site) -> int:
    """As a convolution; the weight is the fourth input."""
    return site.output_count() * _taps(site, 3)


@macs_rule("ConvTranspose")
@macs_rule("ConvTransposeWithDynamicPads", domain="com.microsoft")
def conv_transpose(site: Site) -> int:
    """Every input element is spread over out/group channels and all taps: weight is [in, out/group, k...].

    What falls into the cropped border is computed by the definition too, and counted.
    """
    return site.input_count() * _taps(site, 1)


@macs_rule("CausalConvWithState")
@macs_rule("CausalConvWithState", domain="com.microsoft")
def causal_conv(site: Site) -> int:
    """Depthwise over time: weight is [channels, 1, k...]."""
    return site.output_count() * _taps(site, 1)


@ops_rule("CausalConvWithState")
@ops_rule("CausalConvWithState", domain="com.microsoft")
def causal_conv_activation(site: Site) -> int:
    """The fused activation, when there is one."""
    return 0 if site.attr("activation", "none") == "none" else site.output_count()


@ops_rule("FusedConv", "NhwcFusedConv", domain="com.microsoft")
def fused_activation(site: Site) -> int:
    """The fused activation, and the sum with the optional fourth input."""
    return site.output_count() * (("activation" in site.node.attrs) + site.has(3))


@ops_rule("Col2Im")
def col2im(site: Site) -> int:
    """Overlapping columns are summed: one addition for each input element, no multiplication."""
    return site.input_count()
