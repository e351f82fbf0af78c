"""Training on several devices and in several processes.

    devices     sharding (the mesh and sharding rules), pmap (the alternative execution mode)
    processes   cluster (the processes of a job), job (join, exchange values, stop together), preemption, watchdog

`join()` joins the job of this process, and `job()` returns it; a single process is a job of one. A launcher sets the
environment variables that `cluster` reads. To support another scheduler, add a reader of its variables to `cluster.py`.
"""
