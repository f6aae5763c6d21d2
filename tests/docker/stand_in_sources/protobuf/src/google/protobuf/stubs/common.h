#define GOOGLE_PROTOBUF_VERSION 3020001
int stand_in_protobuf();
