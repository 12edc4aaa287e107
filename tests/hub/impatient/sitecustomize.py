"""Python imports this at its start where this folder is on PYTHONPATH: no wait between two tries is longer than 10 ms.

huggingface_hub waits 1, 2, 4, 8 and 8 seconds before its five retries, and no setting changes that.
"""

import time

patient_sleep = time.sleep
time.sleep = lambda seconds: patient_sleep(min(seconds, 0.01))
