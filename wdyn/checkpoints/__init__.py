"""How are saved models read, written and imported?"""
