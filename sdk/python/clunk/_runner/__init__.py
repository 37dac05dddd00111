"""What runs in a container. Nothing here may import more than it needs: its imports are part of every cold start."""
