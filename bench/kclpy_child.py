"""What a user of amazon_kclpy runs: its own loop, each record's data touched, a checkpoint a batch.

Whoever measures may ask to be told, once a batch: BENCH_COUNTS how many records it had, BENCH_NOTES when each
was put.
"""

import os
import time

from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor

COUNTS, NOTES = os.environ.get("BENCH_COUNTS"), os.environ.get("BENCH_NOTES")


class Touch(processor.RecordProcessorBase):
    def initialize(self, initialize_input):
        self.shard_id = initialize_input.shard_id

    def process_records(self, process_records_input):
        for record in process_records_input.records:
            self.handle(record.binary_data)
        process_records_input.checkpointer.checkpoint()
        if COUNTS:
            self.note(COUNTS, [str(len(process_records_input.records))])
        if NOTES:
            self.note(NOTES, [record.binary_data.decode() for record in process_records_input.records])

    def note(self, path, numbers):
        with open(path, "a") as file:
            file.writelines(f"{time.monotonic():.4f} {self.shard_id} {number}\n" for number in numbers)

    def handle(self, data):
        pass

    def lease_lost(self, lease_lost_input):
        pass

    def shard_ended(self, shard_ended_input):
        shard_ended_input.checkpointer.checkpoint()

    def shutdown_requested(self, shutdown_requested_input):
        pass


if __name__ == "__main__":
    kcl.KCLProcess(Touch()).run()
