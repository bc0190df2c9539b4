"""Networks, one file per paper, and their blocks.

| block | its paper's | where |
| --- | --- | --- |
| depthwise separable convolution | MobileNet V1, figure 3 | `mobilenet_v1.DepthwiseSeparable` |
| inverted residual, linear | MobileNet V2, table 1 | `mobilenet_v2.InvertedResidual` |
| squeeze-excite | SENet, figure 2 | `flaxmobile.layers.SqueezeExcite` |
| with squeeze-excite | V3, figure 4 | `mobilenet_v3.SqueezedInvertedResidual` |
| universal inverted bottleneck | V4, figure 4 | `mobilenet_v4.UniversalInvertedBottleneck` |
| sandglass | MobileNeXt, table 1 | `mobilenext.Sandglass` |
| MBConv | MnasNet, figure 7 | `mnasnet.MBConv` |
| channel shuffle | ShuffleNet V1, figure 1c | `flaxmobile.layers.channel_shuffle` |
| ShuffleNet units | ShuffleNet V1, figure 2 | `shufflenet_v1.ShuffleNetUnit` |
| ShuffleNet V2 units | ShuffleNet V2, figure 3 | `shufflenet_v2.ShuffleUnit` |
| Inception modules | GoogLeNet, figure 2 | `inception_v1.module`, `AuxiliaryClassifier` |
| Inception with two 3×3 for the 5×5 | BN-Inception | `inception_v2.module` |
| factorised modules | Inception v3, figures 5 to 10 | `inception_v3.mixed5` to `MIXED_7` |
| Inception-v4's modules | figures 3 to 8 | `inception_v4.INCEPTION_A`, … of `Branches` |
| Inception-ResNet-v2's, `Mixed_7a` too | figures 16 to 19 | `inception_resnet_v2.MIXED_7A`, … |
| separable convolution, Xception module | Xception, figures 4 and 5 | `xception.SeparableConv` |
| Inception (dilated) convolution | IC-Conv, figure 1 | `ic_conv.ICConv` |
| BlazeFace blocks | BlazeFace, figure 1 | `blazeface.BlazeBlock` |
"""
