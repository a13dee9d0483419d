"""What another vision project could reuse: settings, files, processes, metrics, pages."""

from utils.threads import wait_passively

wait_passively()
