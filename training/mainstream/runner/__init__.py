"""M-Runner: executes a schedule on video, a folder of images or a live source."""
