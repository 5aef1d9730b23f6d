"""What runs inside the clean interpreter: the zygote, its layers and the child that becomes the program.

Standard library only, and nothing of the rest of the package: this folder is put on a bare interpreter's path.
"""
