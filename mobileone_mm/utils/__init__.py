"""The ground: files, checkpoints, configs, and what OpenMMLab lacks on current releases."""
