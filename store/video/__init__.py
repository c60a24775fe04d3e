"""Videos as datasets: frames at a rate, packed into shards, with the camera and the time of each.

PyAV (`pip install 'tamis[video]'`) is imported when the first video is opened, not with this package.
"""

from tamis.store.video.adding import AddedVideos, add_videos
from tamis.store.video.sources import SUFFIXES, Source, is_video, sources_of

__all__ = ["SUFFIXES", "AddedVideos", "Source", "add_videos", "is_video", "sources_of"]
