"""From one scan to its folder of views: scanning, choosing views, rectifying, painting out."""
