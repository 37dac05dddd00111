"""What runs in a container. Nothing here may import more than it needs: its imports are part of every cold start."""

# The descriptor of the dial socket, which came with START; None when there is none. `dial` uses it.
dial_socket = None
# Keeps a cancel away from this package's own code in threads that run user code. `threads` sets it; None without them.
guard = None
# The class of the exception that is raised in a function whose call is canceled. None: `InputCancellation`.
cancellation = None
