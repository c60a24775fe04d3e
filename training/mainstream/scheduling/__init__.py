"""How deep each application shares its base model and how often it looks, chosen jointly for a budget of compute."""
