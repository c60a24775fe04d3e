"""Seconds on the time line of a camera, for people."""


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, such as 1:02:03 or 0:07.5; hours only where there are some."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(abs(tenths), 600)
    hours, minutes = divmod(minutes, 60)
    short = f"{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")
    told = f"{hours}:{minutes:02d}:{short}" if hours else f"{minutes}:{short}"
    return f"-{told}" if tenths < 0 else told
