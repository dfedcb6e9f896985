"""What Kinesis answers when it refuses: an error's name and a message, with HTTP status 400."""

from __future__ import annotations


class Fault(Exception):
    """Told to the client under this name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name, self.message = name, message


def invalid_argument(message: str) -> Fault:
    return Fault("InvalidArgumentException", message)


def invalid_value(message: str) -> Fault:
    return Fault("ValidationException", f"1 validation error detected: {message}")


def not_found(message: str) -> Fault:
    return Fault("ResourceNotFoundException", message)
