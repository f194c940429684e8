"""Sources of camera poses: TF, odometry, pose topics."""
