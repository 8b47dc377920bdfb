# One test: a name stays the same if it is written in capitals and back.
string(TOUPPER "${NAME}" upper)
string(TOLOWER "${upper}" lower)
message("${NAME} -> ${upper} -> ${lower}")
if(NOT lower STREQUAL NAME)
    message(FATAL_ERROR "${lower} is not ${NAME}")
endif()
