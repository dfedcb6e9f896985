"""A self-healing Kinesis consumer: no record may block its shard, and none is lost."""

from streamheal.errors import DecodeError, Poison, Retry, StreamhealError, Throttled
from streamheal.processor import RecordProcessor
from streamheal.records import Position, Record, Shard

__version__ = "0.1.0"

__all__ = [
    "DecodeError",
    "Poison",
    "Position",
    "Record",
    "RecordProcessor",
    "Retry",
    "Shard",
    "StreamhealError",
    "Throttled",
    "__version__",
]
