raise SystemError('must not be imported')
