"""How is what was found shown to people and to programs?"""
