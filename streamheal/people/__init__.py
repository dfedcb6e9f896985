"""What people see and are told. Nothing here decides; it says what was decided, and why."""
