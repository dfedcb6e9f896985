"""What a user of amazon_kclpy runs: its own loop, each record's data touched, a checkpoint a batch."""

from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor


class Touch(processor.RecordProcessorBase):
    def initialize(self, initialize_input):
        pass

    def process_records(self, process_records_input):
        for record in process_records_input.records:
            self.handle(record.binary_data)
        process_records_input.checkpointer.checkpoint()

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
