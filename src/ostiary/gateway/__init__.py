"""What flows: the data plane; listener, exchange, upstream pools, admission cache, plug-ins."""
