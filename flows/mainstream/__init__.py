"""The flows of Mainstream: building packages."""
