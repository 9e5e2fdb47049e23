"""What clients, scripts and operators see of catdog, as text: tests/unit/test_wire.py keeps it.

Each module renders one folder of tests/data/wire: the text of each file, by its name. What is
rendered depends neither on the machine nor on the terminal, the time or catdog's version.
"""
