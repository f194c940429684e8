"""What the node offers: questions, views, markers."""
