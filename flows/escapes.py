"""Text from data, made fit for a terminal: what would steer it is shown, not sent.

Keys of samples, names of classes and messages of libraries may hold anything: colours, a new title for the window,
letters that turn the line around. Bytes that are no text reach us as lone surrogates, which no terminal takes.
"""

_STEERING = (
    *range(0x20), *range(0x7F, 0xA0),  # C0, DEL, C1
    0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A),  # the direction of writing
    0x2028, 0x2029, 0xFEFF, *range(0xD800, 0xE000),
)  # fmt: skip
_NAMED = {ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r"}
_SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _STEERING} | _NAMED
_SHOWN_LINES = {code: text for code, text in _SHOWN.items() if code != ord("\n")}


def shown(text: str) -> str:
    """One line of text: control characters as escapes (`\\x1b`)."""
    return text.translate(_SHOWN)


def shown_lines(text: str) -> str:
    """As `shown`, but lines stay lines."""
    return text.translate(_SHOWN_LINES)
