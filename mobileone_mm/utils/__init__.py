"""Files, checkpoints, configs, and what OpenMMLab lacks on current releases."""
