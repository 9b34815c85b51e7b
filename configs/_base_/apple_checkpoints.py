# Apple's ImageNet weights, with branches: https://github.com/apple/ml-mobileone.
apple_checkpoints = {
    arch: 'https://docs-assets.developer.apple.com/ml-research/datasets/mobileone/'
    f'mobileone_{arch}_unfused.pth.tar'
    for arch in ('s0', 's1', 's2', 's3', 's4')
}
