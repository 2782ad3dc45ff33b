"""The same work in other libraries; only the processes that measure it import these modules."""
