"""What people look at: tables and plots of speed-up, priorities and chosen images."""
