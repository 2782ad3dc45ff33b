"""The time loop in one launch: a kernel that keeps U on the chip for all steps."""
