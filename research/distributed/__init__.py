"""Many devices and many processes as one.

    devices     sharding (the mesh, and rules for where arrays live), pmap (the other execution mode)
    processes   cluster (who is in the job), job (joining, exchanging, ending together), preemption, watchdog

`job()` is the job of this process and `join()` joins it; one process is a job of its own. A launcher sets the
environment that `cluster` reads. To support another scheduler, add a reader of its variables to `cluster.py`.
"""
