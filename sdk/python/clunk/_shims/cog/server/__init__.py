"""What models import from the server of older releases of Cog."""
