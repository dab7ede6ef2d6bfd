"""The main job on real data: pictures, words and code in one space, measured and searched. Run by `coembed demo`."""
