
// The worst mistakes of an evaluation, with what each image is in truth.
if (catdog.byId("gallery")) catdog.view(catdog.data.items);
