"""`ostiary doveadm`: what the doveadm command of Dovecot says and prints, asked of the admin listener.

words -> one command of the HTTP API (commands.py) -> POST /doveadm/v1 (asking.py) -> its rows, laid out (layout.py)
"""
