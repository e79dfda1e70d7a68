"""Faults of a real server and network, and what the releasing engine makes of them beside the stock one."""
